import ruvq

model = await ruvq.Model.fetch(MODEL)
text = "Once upon a time there was a little girl."
ids = await model.tokenize(text)
print(f"{len(text)} characters, {len(ids)} tokens\n")
for token in ids:
    print(f"{token:6}  {await model.detokenize([token])!r}")
model.close()
