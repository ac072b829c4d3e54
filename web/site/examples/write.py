import ruvq

# MODEL is the address of the page's model; any GGUF file's address will do
model = await ruvq.Model.fetch(MODEL)
print(f"{model.info['parameters']:,} weights at {model.info['bitsPerWeight']:.2f} bits\n")

pieces = model.stream("One day, a cat", max_tokens=80, seed=7)
async for piece in pieces:
    print(piece, end="")

print(f"\n\n{pieces.stats['tokensPerSecond']:.0f} tokens per second")
model.close()
