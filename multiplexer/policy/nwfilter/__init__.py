"""libvirt's network filters: a language, compiled for our own datapath."""
