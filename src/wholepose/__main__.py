"""Lets ``python -m wholepose`` run the command line."""

from wholepose.cli.main import entry_point

entry_point()
