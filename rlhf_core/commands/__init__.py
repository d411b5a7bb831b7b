"""The command line, a module for each part of the work: the flags of a command beside what it does. Doors: each parses, calls one
service or run, prints. Heavy imports stay inside the commands that need them."""
