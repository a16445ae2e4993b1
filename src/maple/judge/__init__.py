"""Open-ended answers, judged: AlpacaEval's files, verdicts and win rates."""
