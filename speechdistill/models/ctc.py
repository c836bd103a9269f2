"""StudentForCTC: a recogniser on any encoder. Importing this file registers it with transformers."""

from dataclasses import field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCTC, PretrainedConfig

from speechdistill.frames import HUBERT_CONV_STACK
from speechdistill.models.batches import Integers, RecognizerOutput, Waveforms, as_batch
from speechdistill.models.ctc_encoders import ENCODERS, Mask, States
from speechdistill.models.ctc_heads import LinearHead, RecurrentHead
from speechdistill.models.hubert_interface import ConvolutionFields, HubertInterface, chosen_states
from speechdistill.models.recording_norms import RecordingStatistics

HEADS = ("linear", "blstm")
LAYERS = ("last", "weighted")


class CTCConfig(ConvolutionFields, PretrainedConfig):
    """What a recogniser looks like.

    Args:
        encoder: {"kind": "student", **StudentConfig}, {"kind": "transformers", **config of HuBERT and the like} or
            {"kind": "fbank"}.
        layers: "last" hidden state, or a learned "weighted" mean of all of them.
        freeze_encoder: whether the encoder's weights stay as they are, in evaluation mode.
        head: "linear", or "blstm".
        head_size: width of the LSTM in each direction.
        head_layers: of LSTM.
        final_dropout: in front of the linear head, or behind each layer of LSTM.
        vocab_size: units of text, with the blank.
        pad_token_id: the blank's number; 0 as in all of transformers' CTC models.
        trained_seconds: the longest recording of the training, by which long ones are divided; None = unknown.

    Raises:
        ValueError: a value is not allowed.
    """

    model_type = "speechdistill_ctc"
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["num_frames"]  # of an output, by transformers' Trainer

    encoder: dict[str, Any] = field(default_factory=lambda: {"kind": "fbank"})
    layers: str = "last"
    freeze_encoder: bool = False
    head: str = "linear"
    head_size: int = 1024
    head_layers: int = 2
    final_dropout: float = 0.0
    vocab_size: int = 32
    pad_token_id: int = 0
    trained_seconds: float | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        """Refuse what cannot be built."""
        super().__post_init__(**kwargs)
        for name, value, allowed in (
            ("encoder", self.encoder.get("kind"), tuple(ENCODERS)),
            ("layers", self.layers, LAYERS),
            ("head", self.head, HEADS),
        ):
            if value not in allowed:
                raise ValueError(f"CTCConfig: {name} is {value!r}; allowed: {', '.join(allowed)}")

    @property
    def conv_stack(self) -> tuple[tuple[int, int], ...]:
        """(kernel, stride) of each convolution that makes frames of samples."""
        stacks = {
            "student": lambda: ((kernel, stride) for _, kernel, stride in self.encoder["conv_layers"]),
            "transformers": lambda: zip(self.encoder["conv_kernel"], self.encoder["conv_stride"], strict=True),
            "fbank": lambda: HUBERT_CONV_STACK,
        }
        return tuple(stacks[self.encoder["kind"]]())


def build_encoder(config: CTCConfig) -> Any:
    """The encoder of a configuration, with fresh weights."""
    settings = dict(config.encoder)
    return ENCODERS[settings.pop("kind")](settings)


class StudentForCTC(HubertInterface):
    """An encoder and a head that gives each frame of 20 ms the scores of the units of text and of the blank.

    Two ways (`CTCConfig`): a frozen encoder with learned layer weights and a BLSTM, as SUPERB does it, and fine-tuning
    of all of it under a linear map, as wav2vec 2.0 does it.
    """

    config_class = CTCConfig
    base_model_prefix = "encoder"

    def __init__(self, config: CTCConfig) -> None:
        super().__init__(config)
        self.encoder = build_encoder(config)
        width = self.encoder.hidden_size
        weighted = config.layers == "weighted"
        self.layer_weights = nn.Parameter(torch.zeros(self.encoder.num_states)) if weighted else None
        self.head = (
            LinearHead(width, config.vocab_size, config.final_dropout)
            if config.head == "linear"
            else RecurrentHead(width, config.vocab_size, config.head_size, config.head_layers, config.final_dropout)
        )
        if config.freeze_encoder:
            self.encoder.requires_grad_(False)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Torch's own fresh weights are good for the head; encoders draw theirs themselves."""

    def _conv_module(self) -> nn.Module:
        encoder: nn.Module = self.encoder.feature_encoder
        return encoder

    def train(self, mode: bool = True) -> "StudentForCTC":
        """Train, but for a frozen encoder."""
        super().train(mode)
        if self.config.freeze_encoder:
            self.encoder.train(False)
        return self

    def logits(
        self,
        waveforms: Tensor,
        num_samples: Tensor | None = None,
        mask: Mask | None = None,
        encoder_learns: bool = True,
        of: RecordingStatistics | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Score the units in each frame; the entry for everything inside this package.

        Args:
            waveforms: (B, S) float at 16 kHz in [-1, 1].
            num_samples: (B,) real samples in each row; None = no row is padded.
            mask: hides parts of the features: of the convolutions' (or the log-mel bands), or of what a frozen
                encoder gives.
            encoder_learns: False = no gradient for the encoder in this step.
            of: what `encoder.measure` says of the recording that the waveforms are part of; None = they are all of it.

        Returns:
            (B, T, V) logits; (B,) real frames in each row.
        """
        logits, states = self._score(waveforms, num_samples, mask, encoder_learns, of)
        return logits, states.num_frames

    def forward(
        self,
        input_values: Waveforms,
        attention_mask: Integers | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | int | list[int] | None = None,
        return_dict: bool | None = None,
    ) -> RecognizerOutput | tuple[Any, ...]:
        """Score the units in each frame, as transformers' CTC models do; what is None is as the config says.

        Args:
            input_values: (B, S) float at 16 kHz in [-1, 1], or a list of recordings (S,) of any lengths; tensors or
                NumPy arrays, normalised in here where the encoder wants them so.
            attention_mask: (B, S) of any dtype, 1 = a real sample, 0 = padding after it.
            output_attentions: not to be had here; a student gives them.
            output_hidden_states: whether to return all of the encoder's hidden states; or the indices of some, with
                None in place of the others.
            return_dict: whether to return an object with names or a tuple.

        Returns:
            logits (B, T, V); hidden_states, (B, T, D) each, the first the input of the first Transformer layer;
            num_frames (B,), real frames in each row, by name alone.

        Raises:
            ValueError: attentions are asked for, waveforms are no floating point, or a mask says something else than
                (B,) lengths.
        """
        config = self.config
        if config.output_attentions if output_attentions is None else output_attentions:
            raise ValueError("output_attentions: StudentForCTC gives none; its student, model.encoder.model, does")
        asked = config.output_hidden_states if output_hidden_states is None else output_hidden_states
        chosen = chosen_states(asked, self.encoder.num_states)
        waveforms, num_samples = as_batch(input_values, attention_mask, None, self.device, self.dtype)
        logits, states = self._score(waveforms, num_samples, all_states=bool(chosen))
        kept = tuple(state if index in chosen else None for index, state in enumerate(states.hidden))
        output = RecognizerOutput(logits=logits, hidden_states=kept if chosen else None, num_frames=states.num_frames)
        return output if (config.return_dict if return_dict is None else return_dict) else output.to_tuple()

    def _score(
        self,
        waveforms: Tensor,
        num_samples: Tensor | None,
        mask: Mask | None = None,
        encoder_learns: bool = True,
        of: RecordingStatistics | None = None,
        all_states: bool = False,
    ) -> tuple[Tensor, States]:
        """The logits, and the states that they come from; arguments as of `logits`."""
        frozen = self.config.freeze_encoder and self.layer_weights is not None
        learns = encoder_learns and not self.config.freeze_encoder and torch.is_grad_enabled()
        with torch.set_grad_enabled(learns):
            states: States = self.encoder(
                waveforms, num_samples, all_states or self.layer_weights is not None, None if frozen else mask, of
            )
        hidden = states.last
        if self.layer_weights is not None:
            weights = self.layer_weights.softmax(0)
            hidden = torch.stack([weights[i] * state for i, state in enumerate(states.hidden)]).sum(0)
        if frozen and mask is not None:
            hidden = mask(hidden, states.num_frames)
        return self.head(hidden, states.num_frames), states


AutoConfig.register(CTCConfig.model_type, CTCConfig, exist_ok=True)
AutoModelForCTC.register(CTCConfig, StudentForCTC, exist_ok=True)
