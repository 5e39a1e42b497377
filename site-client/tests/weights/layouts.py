"""Writes names and shapes of the tensors that PyTorch expects with strict=True, for the models of tests.rs;
with files of `fmct-site init` as arguments, loads each into its model.

    python layouts.py                                            # writes layouts.json; needs torch
    python layouts.py backbone=B.safetensors dino=D.safetensors mae=M.safetensors    # needs safetensors too
"""
import json, pathlib, sys
import torch
from torch import nn

IMAGE, PATCH, DIM, DEPTH, MLP = 12, 6, 24, 2, 48


class Attention(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)


class Mlp(nn.Module):
    def __init__(self, dim, hidden):
        super().__init__()
        self.linear1, self.linear2 = nn.Linear(dim, hidden), nn.Linear(hidden, dim)


class Block(nn.Module):
    def __init__(self, dim, hidden):
        super().__init__()
        self.mlp, self.attn = Mlp(dim, hidden), Attention(dim)
        self.att_norm, self.ffn_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)


class PatchEmbedding(nn.Module):
    def __init__(self):
        super().__init__()
        self.patch_embeddings = nn.Conv3d(3, DIM, PATCH, PATCH)
        self.position_embeddings = nn.Parameter(torch.zeros(1, (IMAGE // PATCH) ** 3, DIM))


class Vit(nn.Module):
    def __init__(self, registers):
        super().__init__()
        self.patch_embedding = PatchEmbedding()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, DIM))
        if registers:
            self.register_tokens = nn.Parameter(torch.zeros(1, registers, DIM))
        self.blocks = nn.ModuleList(Block(DIM, MLP) for _ in range(DEPTH))
        self.norm = nn.LayerNorm(DIM)


class Head(nn.Module):
    """Of DINO, with batch norm."""
    def __init__(self, hidden, bottleneck, prototypes):
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(DIM, hidden), nn.BatchNorm1d(hidden), nn.GELU(),
            nn.Linear(hidden, hidden), nn.BatchNorm1d(hidden), nn.GELU(), nn.Linear(hidden, bottleneck))
        self.last_layer = nn.utils.weight_norm(nn.Linear(bottleneck, prototypes, bias=False))


class Dino(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone, self.head = Vit(2), Head(32, 16, 64)


class Mae(Vit):
    def __init__(self):
        super().__init__(0)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, DIM))
        self.decoder_cls_token = nn.Parameter(torch.zeros(1, 1, DIM))
        self.decoder_pos_embed = nn.Parameter(torch.zeros(1, (IMAGE // PATCH) ** 3, DIM))
        self.decoder_embed = nn.Linear(DIM, DIM)
        self.decoder_blocks = nn.ModuleList([Block(DIM, 8)])
        self.decoder_norm, self.decoder_pred = nn.LayerNorm(DIM), nn.Linear(DIM, 3 * PATCH**3)


models = {"backbone": Vit(2), "dino": Dino(), "mae": Mae()}
if sys.argv[1:]:
    from safetensors.torch import load_file
    for argument in sys.argv[1:]:
        name, file = argument.split("=", 1)
        print(name, models[name].load_state_dict(load_file(file), strict=True))
else:
    # PyTorch itself adds the counters of batch norm that a file lacks.
    layouts = {name: {key: list(tensor.shape) for key, tensor in sorted(model.state_dict().items())
                      if not key.endswith("num_batches_tracked")} for name, model in models.items()}
    path = pathlib.Path(__file__).parent / "layouts.json"
    path.write_text(json.dumps(layouts, indent=1) + "\n")
