"""Ladders: one small model, pre-trained to several token budgets on text that every installation has."""

from overtrain.pretrain.ladder import pretrain, train_run
from overtrain.pretrain.prepared import PreparedText, prepare
from overtrain.pretrain.recipe import Recipe
from overtrain.pretrain.text import Document, Text, collect

__all__ = ["Document", "PreparedText", "Recipe", "Text", "collect", "prepare", "pretrain", "train_run"]
