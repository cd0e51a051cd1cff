"""The contract with the API's clients: the committed OpenAPI documents, and what a change to them breaks."""
