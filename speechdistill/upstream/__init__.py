"""Students as s3prl upstreams: importing this puts "speechdistill" among s3prl's upstreams, where s3prl is installed.

Import it before s3prl, which does not start on today's torchaudio by itself.
"""

from importlib.util import find_spec

from speechdistill.upstream.expert import UpstreamExpert

__all__ = ["UpstreamExpert"]

if find_spec("s3prl"):
    from speechdistill.upstream import register

    register.register()
