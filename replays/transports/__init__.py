"""Ways to talk to a real, unmodified server in the kernel's place, one module each, behind one interface (`base`)."""
