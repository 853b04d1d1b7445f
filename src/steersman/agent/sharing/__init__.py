"""Handing an agent on: a folder that loads without its run, its model card, a hub."""
