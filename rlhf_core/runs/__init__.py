"""Work room: training runs, one loop each, read top to bottom. Imports torch; started as a process of its own."""
