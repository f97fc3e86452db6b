-- JSON: by hardware type the mean powers that the nodes' processors counted of
-- themselves, mW; '': not all of them did.
ALTER TABLE lesson ADD COLUMN processors TEXT NOT NULL DEFAULT '';
