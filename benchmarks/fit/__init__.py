"""Every fitted constant of the catalogue, fitted again from its rows; see the README beside this file."""
