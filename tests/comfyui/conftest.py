"""Register the plugin that starts a real ComfyUI; see ``comfyui_server``."""

import comfyui_server
from comfyui_server import CHECKOUT, Server

__all__ = ["CHECKOUT", "Server"]


def pytest_configure(config) -> None:
    if not config.pluginmanager.is_registered(comfyui_server):
        config.pluginmanager.register(comfyui_server)
