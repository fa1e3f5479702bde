"""FastAPI as most people put it around a model: a plain function in its thread pool, one image a run, no batching."""

import uvicorn
from fastapi import FastAPI, UploadFile

from benchmarks.classifier import Classifier
from benchmarks.peers import HOST, port

app = FastAPI()
classifier = Classifier()


@app.post("/classify")
def classify(file: UploadFile) -> dict[str, object]:
    return classifier.infer([classifier.decode(file.file.read())])[0]


if __name__ == "__main__":
    uvicorn.run(app, host=HOST, port=port(), log_level="warning")
