"""AlpacaEval: answers to its instructions, and a judge that compares them with a reference."""
