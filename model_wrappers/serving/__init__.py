"""OpenAI-compatible servers: started here, and asked."""
