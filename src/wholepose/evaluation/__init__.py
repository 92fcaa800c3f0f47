"""How good a model is: AP and AR whole and by part, PCK, AUC, EPE, NME, error kinds, intervals and reports."""
