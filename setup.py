"""A shim: the metadata stands in setup.cfg."""

from setuptools import setup

setup()
