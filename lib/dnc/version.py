"""The suite's version, compared between frontend and host agent at every session."""

VERSION = "0.1.0"
