"""Train on Amazon SageMaker: python launch_sagemaker.py; search there: python launch_sagemaker.py -m hpo=bayes."""

from dogbreeds.commands import launch

if __name__ == "__main__":
    launch()
