"""Core room: files of chats become validated rows. Knows formats and rules; knows neither store nor pages."""
