"""From the text to a Config: what is no TOML is told here, the rest is the reader's.

tomllib raises more than its own error, and each has to name a line.
"""

import re
import tomllib
from typing import Final

from ..model import Config, ConfigError, Origin
from .keys import KEYS
from .reader import ConfigReader
from .toml_lines import find_lines
from .toml_tables import Problems, Table

_TOML_PLACE: Final = re.compile(
    r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", re.DOTALL
)


def parse_config(text: str, filename: str) -> Config:
    """Return the configuration that *text* is; *filename* appears in messages only.

    Raises:
        ConfigError: with all that is wrong, in the order of the lines.
    """
    try:
        tree = tomllib.loads(text)
        origin = Origin(filename, find_lines(text))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([_describe_syntax_error(error, text, filename)]) from None
    except ValueError:
        # tomllib lets this through: Python reads no integer of more than 4300 digits.
        endless = re.search(r"[0-9_]{4301}", text)
        line = text.count("\n", 0, endless.start()) + 1 if endless else 1
        raise ConfigError([f"{filename}:{line}: an integer of more than 4300 digits"]) from None
    except RecursionError:
        raise ConfigError([f"{filename}:1: arrays are nested too deeply"]) from None
    problems = Problems(origin)
    config = ConfigReader(problems, Table(problems, (), tree, KEYS[""])).read(origin)
    problems.raise_if_any()
    return config


def _describe_syntax_error(error: tomllib.TOMLDecodeError, text: str, filename: str) -> str:
    match = _TOML_PLACE.fullmatch(str(error))
    if match is None:
        return f"{filename}:1: not TOML: {error}"
    message, line, column = match.groups()
    if line is None:
        return f"{filename}:{len(text.splitlines()) or 1}: not TOML: {message} at the end"
    return f"{filename}:{line}: not TOML: {message} in column {column}"
