"""The product's main job on a network of its own making: python -m demo."""
