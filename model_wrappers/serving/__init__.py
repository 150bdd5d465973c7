"""OpenAI-compatible model servers: one part starts vLLM, the other part sends requests."""
