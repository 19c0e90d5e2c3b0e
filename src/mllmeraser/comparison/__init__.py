"""Methods side by side: recipes, resumable cells, tidy results, and the exhibits drawn from them.

A *recipe* says which methods meet which models, splits, folds and seeds; a *cell* is one method on one model, split,
fold and seed, and one file; an *exhibit* is a table or figure made from the files of a run, without any model.
"""
