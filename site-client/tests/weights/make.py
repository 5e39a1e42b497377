"""Writes one small transformer in every layout the released code saves.

    python make.py    # needs torch and safetensors
"""
import pathlib
import torch
from safetensors.torch import save_file

dim, patch, grid, mlp, depth = 12, 6, 2, 24, 1
shapes = {
    "cls_token": (1, 1, dim),
    "patch_embedding.position_embeddings": (1, grid**3, dim),
    "patch_embedding.patch_embeddings.weight": (dim, 3, patch, patch, patch),
    "patch_embedding.patch_embeddings.bias": (dim,),
    "norm.weight": (dim,),
    "norm.bias": (dim,),
}
for i in range(depth):
    b = f"blocks.{i}."
    shapes |= {
        b + "mlp.linear1.weight": (mlp, dim), b + "mlp.linear1.bias": (mlp,),
        b + "mlp.linear2.weight": (dim, mlp), b + "mlp.linear2.bias": (dim,),
        b + "att_norm.weight": (dim,), b + "att_norm.bias": (dim,),
        b + "ffn_norm.weight": (dim,), b + "ffn_norm.bias": (dim,),
        b + "attn.qkv.weight": (3 * dim, dim),
        b + "attn.proj.weight": (dim, dim), b + "attn.proj.bias": (dim,),
    }
flat, start = {}, 0
for name, shape in shapes.items():
    n = int(torch.tensor(shape).prod())
    flat[name] = ((torch.arange(start, start + n) % 97) / 97).reshape(shape)
    start += n


def wrap(prefix, scale=1.0):
    return {prefix + k: v * scale for k, v in flat.items()}


out = pathlib.Path(__file__).parent
save_file(flat, out / "flat.safetensors")
torch.save(flat, out / "flat.pth")
head = {"module.head.mlp.0.weight": torch.zeros(4, dim), "module.head.last_layer.weight_g": torch.ones(3, 1)}
optimizer = {"state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 0.1}]}
torch.save({"epoch": 3, "best_loss": 1.5, "state_dict": wrap("module.backbone.") | head,
            "momentum_model_state_dict": wrap("module.backbone.", 0.5) | head, "optimizer": optimizer,
            "scheduler": {"last_epoch": 3}}, out / "dino.pt")
decoder = {"module.mask_token": torch.zeros(1, 1, dim), "module.decoder_pos_embed": torch.zeros(1, grid**3, dim),
           "module.decoder_blocks.0.attn.qkv.weight": torch.zeros(3 * dim, dim)}
torch.save({"epoch": 1, "state_dict": wrap("module._orig_mod.") | decoder, "momentum_model_state_dict": None,
            "optimizer": optimizer}, out / "mae.pt")
