# Every target does all the set-up that it needs, on a fresh Debian 12 as root.
#
#   make demo    the main job, in namespaces of its own
#   make test    every test
#   make fuzz    the fuzz targets alone, for longer: FUZZ_SECONDS=600
#   make lint    ruff, mypy --strict, C warnings, manual pages
#   make bench   the peers and ourselves on the same work, side by side: bench/README.md;
#                make bench WORK=frames_60,tcp_1 does a part

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
# Unprivileged users run what is installed here.
UMASK := umask 022;

# Debian's own interpreter: one in a home directory cannot be run by other users.
PYTHON ?= /usr/bin/python3
VENV := .venv
BIN := $(VENV)/bin

RUN_PACKAGES := gcc liblwip-dev libseccomp-dev python3-dev python3-venv iproute2
DEMO_PACKAGES := iputils-ping curl
TEST_PACKAGES := iperf3 tcpdump ethtool mandoc uidmap libasan8 libubsan1 procps slirp4netns socat \
	qemu-system-x86 busybox-static cpio golang-go openssh-client \
	libvirt-daemon libvirt-clients iptables ebtables
FUZZ_PACKAGES := clang libclang-rt-dev
BENCH_PACKAGES := iperf3 vde2 libvdeplug-dev openvswitch-switch ethtool procps \
	slirp4netns passt iptables ebtables

WORK ?= all

SOURCES := pyproject.toml setup.py $(shell find multiplexer pfinet_client proto \
	-name '*.py' -o -name '*.[ch]' -o -name '*.xml' | grep -v '/_dp.c$$\|/_pump.c$$\|/_lwip.c$$' | LC_ALL=C sort)
C_SOURCES := $(shell find multiplexer pfinet_client bench -name '*.c' ! -name '_*')
C_WARNINGS := -std=c11 -D_GNU_SOURCE -O2 -Wall -Wextra -Wconversion -Wshadow \
	-Wstrict-prototypes -Wmissing-prototypes -Wvla -Werror \
	-Iproto/include -Imultiplexer/datapath -Ipfinet_client/pump -isystem /usr/include/lwip

.PHONY: all demo test fuzz lint bench clean
all: $(VENV)/.installed

# $(call need,PACKAGES): install what is missing, and ask the network only then.
define need
@missing=$$(for p in $(1); do \
	dpkg-query -W -f='$${db:Status-Status}\n' "$$p" 2>/dev/null | grep -qx installed || echo "$$p"; \
done); \
if [ -n "$$missing" ]; then \
	echo "installing" $$missing; \
	export DEBIAN_FRONTEND=noninteractive; \
	apt-get update -qq && apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
fi
endef

$(VENV)/.python: Makefile
	$(call need,$(RUN_PACKAGES))
	$(UMASK) $(PYTHON) -m venv --clear $(VENV)
	$(UMASK) $(BIN)/pip install -q --disable-pip-version-check 'setuptools>=68' wheel 'cffi>=1.16'
	touch $@

$(VENV)/.installed: $(VENV)/.python $(SOURCES)
	rm -rf build/lib.* build/temp.* build/bdist.*
	$(UMASK) PFINET_LWIP=1 $(BIN)/pip install -q --disable-pip-version-check --no-build-isolation .
	cp build/lib.*/multiplexer/datapath/_dp.*.so multiplexer/datapath/
	cp build/lib.*/pfinet_client/_pump.*.so pfinet_client/
	cp build/lib.*/pfinet_client/stack/lwip/_lwip.*.so pfinet_client/stack/lwip/
	touch $@

$(VENV)/.tools: $(VENV)/.installed pyproject.toml
	$(UMASK) PFINET_LWIP=1 $(BIN)/pip install -q --disable-pip-version-check --no-build-isolation '.[test,lint]'
	touch $@

demo: $(VENV)/.installed
	$(call need,$(DEMO_PACKAGES))
	$(BIN)/python -m demo

# A kernel for tests' virtual machines: unpacked, not installed, so the machine boots as before.
build/guest:
	rm -rf $@ $@.new && mkdir -p $@.new
	apt-get update -qq
	cd $@.new && apt-get download -qq -o APT::Sandbox::User=root "$$(apt-cache depends linux-image-cloud-amd64 | \
		sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p')"
	dpkg-deb -x $@.new/*.deb $@.new && rm $@.new/*.deb
	mv $@.new $@

# A web server, likewise: installed, it would serve on this machine.
build/nginx:
	rm -rf $@ $@.new && mkdir -p $@.new
	apt-get update -qq
	cd $@.new && apt-get download -qq -o APT::Sandbox::User=root nginx
	dpkg-deb -x $@.new/*.deb $@.new && rm $@.new/*.deb
	mv $@.new $@

# lwIP's source; the machine's own configuration says where packages' sources are.
FROM_HERE = -o Dir::Etc::SourceList=/dev/null -o Dir::Etc::SourceParts="$$PWD/sources" \
	-o Dir::State::Lists="$$PWD/lists" -o APT::Sandbox::User=root
build/lwip:
	$(call need,dpkg-dev)
	rm -rf $@ $@.new && mkdir -p $@.new/sources $@.new/lists/partial
	cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null | \
		sed -n 's/^deb /deb-src /p' >$@.new/sources/all.list || true
	for each in /etc/apt/sources.list.d/*.sources; do \
		[ ! -e "$$each" ] || sed 's/^Types:.*/Types: deb-src/' "$$each"; echo; echo; \
	done >$@.new/sources/all.sources
	cd $@.new && { apt-get $(FROM_HERE) update -qq || true; } && \
		apt-get $(FROM_HERE) source -qq lwip
	mv $@.new/lwip-*/ $@ && rm -r $@.new

# The package with lwIP built from that; tests use it beside the one with Debian's.
build/lwip-site: build/lwip $(VENV)/.installed
	rm -rf $@ build/lib.* build/temp.* build/bdist.*
	$(UMASK) PFINET_LWIP_SRC=build/lwip $(BIN)/pip install -q --disable-pip-version-check \
		--no-build-isolation --no-deps --target $@ .
	rm -rf build/lib.* build/temp.*
	touch $@

test: $(VENV)/.tools build/guest build/nginx build/lwip-site
	$(call need,$(DEMO_PACKAGES) $(TEST_PACKAGES) $(FUZZ_PACKAGES))
	$(BIN)/python -m pytest

FUZZ_SECONDS ?= 600
fuzz: $(VENV)/.tools build/lwip-site
	$(call need,$(DEMO_PACKAGES) $(TEST_PACKAGES) $(FUZZ_PACKAGES))
	FUZZ_SECONDS=$(FUZZ_SECONDS) $(BIN)/python -m pytest --timeout=0 \
		tests/fuzz tests/system/test_stack_hostile.py

lint: $(VENV)/.tools
	$(call need,mandoc libvdeplug-dev)
	$(BIN)/ruff check .
	$(BIN)/mypy
	@for c in $(C_SOURCES); do echo "$$c"; gcc $(C_WARNINGS) -c "$$c" -o /dev/null; done
	mandoc -T lint -W warning man/*

$(VENV)/.drawing: $(VENV)/.tools
	$(UMASK) PFINET_LWIP=1 $(BIN)/pip install -q --disable-pip-version-check --no-build-isolation '.[bench]'
	touch $@

bench: $(VENV)/.drawing build/lwip-site
	$(call need,$(DEMO_PACKAGES) $(BENCH_PACKAGES))
	$(BIN)/python -m bench --work $(WORK)

clean:
	rm -rf $(VENV) build *.egg-info
	find . -name '__pycache__' -prune -exec rm -rf {} +
