"""bridges: Hugging Face Trainer histories into TensorBoard, MLflow and Weights & Biases."""

__version__ = "0.1.0"
