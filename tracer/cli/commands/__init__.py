"""The commands, each in its module; `tracer.cli.main` lists them."""
