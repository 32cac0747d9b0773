"""passbox: a self-hosted clean room for machine learning, spoken to with stock AWS clients."""
