"""Checkpoints to a model hub, when somebody asks for it."""

from __future__ import annotations

from rlhf_core.checkpoints.registry import open_checkpoint
from rlhf_core.ground.errors import HubUnavailable
from rlhf_core.services.workbench import Workbench


def push(workbench: Workbench, checkpoint_id: str, repository: str, *, private: bool = True) -> str:
    """Upload a checkpoint with its model card, after its files were verified. Returns the repository's address.

    Args:
        workbench: The opened workspace.
        checkpoint_id: Of what is uploaded.
        repository: NAME or OWNER/NAME; made where it is missing.
        private: Of a new repository.

    Raises:
        NotFound, CorruptArtifact: the checkpoint.
        HubUnavailable: the hub does not answer, does not know who asks, or refuses.
    """
    import httpx2  # what the hub's library asks with
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError, OfflineModeIsEnabled

    workbench.require("train")
    checkpoint = open_checkpoint(workbench.workspace.checkpoints, checkpoint_id, verify=True)
    api = HfApi()
    try:
        address = api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=address.repo_id, folder_path=checkpoint.folder, commit_message=f"{checkpoint.id}, run {checkpoint.run_id}"
        )
    except LocalTokenNotFoundError as error:
        raise HubUnavailable("The hub does not know who asks. Sign in with `hf auth login`, or set HF_TOKEN.") from error
    except HFValidationError as error:
        raise HubUnavailable(f"{repository!r} is no name for a repository: {error}") from error
    except OfflineModeIsEnabled as error:
        raise HubUnavailable("HF_HUB_OFFLINE is set, so nothing is uploaded. Unset it first.") from error
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else None
        advice = "Sign in with `hf auth login` as somebody who may write there." if status in (401, 403) else "Try again later."
        raise HubUnavailable(f"The hub refused ({status}): {str(error).splitlines()[0]} {advice}") from error
    except (httpx2.HTTPError, OSError) as error:
        raise HubUnavailable(f"The hub does not answer: {error}. Nothing is half uploaded; try again.") from error
    workbench.note("push", checkpoint.id, to=repository, private=private)
    return str(address)
