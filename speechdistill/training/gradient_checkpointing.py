"""Memory for time: layers keep their inputs alone and compute the rest again on the way back."""

from functools import partial

from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from speechdistill.errors import UserError
from speechdistill.models.supernet import Supernet
from speechdistill.training.module import TrainingModule


def checkpoint_gradients(module: TrainingModule) -> None:
    """Checkpoint the convolutions and the Transformer layers of what is trained (Chen et al., 2016, arXiv:1604.06174).

    Losses and gradients stay as they are, dropout included; a step computes the student's forward twice.

    Raises:
        UserError: a supernet, whose weights are other slices by the time of the way back, or a model without layers.
    """
    if isinstance(module.model, Supernet):
        raise UserError(
            "trainer.gradient_checkpointing=true is not for once-for-all training, where each step takes other slices "
            "of the weights. Lower data.batch_seconds and raise trainer.accumulate by as much."
        )
    models = [part for part in module.model.modules() if isinstance(part, PreTrainedModel)]
    try:
        models[0]._set_gradient_checkpointing(True, partial(checkpoint, use_reentrant=False))
    except (IndexError, ValueError) as error:
        raise UserError("trainer.gradient_checkpointing=true: this model has no layers to checkpoint.") from error
