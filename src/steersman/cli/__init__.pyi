from .app import COMMANDS as COMMANDS, main as main
