"""Work room: a thread supervises, a process trains. Claims queued runs, starts them, watches, cancels, reaps."""
