"""Work room: one module for each thing a person does. Pages and the command line call these and nothing below."""
