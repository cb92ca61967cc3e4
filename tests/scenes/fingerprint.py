"""What one run of scenes looks like, as one number; run alone, it needs no torch."""

import hashlib

from seewhy.scenes import Scenes, Watermark

SCENES = Scenes(60, 7, watermark=Watermark("hammer", 1.0, elsewhere=0.5))


def fingerprint(scenes: Scenes = SCENES) -> str:
    """SHA-256 of all pixels and truths."""
    digest = hashlib.sha256()
    for scene in scenes:
        digest.update(scene.pixels.tobytes())
        digest.update(repr(scene.truth.to_json()).encode())
    return digest.hexdigest()


if __name__ == "__main__":
    print(fingerprint())
