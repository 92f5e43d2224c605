"""Recipes: what to train, on what, and how.

Every field of a table in a recipe is a field of a class here, with its default.
"""

from trencadis_train.recipe.read import differences, load_recipe, parse_recipe
from trencadis_train.recipe.sparse import SparseTraining
from trencadis_train.recipe.tables import (
    Augmentation,
    DataSource,
    Distillation,
    DynamicMasks,
    LayerRecipe,
    Quantisation,
    Recipe,
    Training,
)

__all__ = [
    "Augmentation",
    "DataSource",
    "Distillation",
    "DynamicMasks",
    "LayerRecipe",
    "Quantisation",
    "Recipe",
    "SparseTraining",
    "Training",
    "differences",
    "load_recipe",
    "parse_recipe",
]
