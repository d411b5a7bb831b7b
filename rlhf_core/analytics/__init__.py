"""Core room: immutable snapshots of the store, and questions asked of them. Nobody runs analytics on the live store."""
