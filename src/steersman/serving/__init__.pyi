from .app import create_app as create_app
from .desk import Desk as Desk
from .limits import Limits as Limits
from .server import Server as Server
from .token import read_token as read_token
