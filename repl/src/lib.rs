//! Sessions, renderers, shell and command line.
