"""Methods side by side: recipes, resumable cells, tidy results, and exhibits.

A *recipe* names methods, models, splits, folds and seeds. A *cell* is one method on one model, split, fold and seed, in
one file. An *exhibit* is a table or figure made from the files of a run, without a model.
"""
