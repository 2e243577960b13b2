"""Transfer manager actions, one module each; they run on the frontend (contract 1)."""
