"""What a repository refuses. One tree for all of them, so that callers need not know which one they have."""

from __future__ import annotations

from dataclasses import dataclass

from plumbline.errors import ArtifactError, PolicyError, Recoverability, ResourceError, ValidationError

__all__ = [
    "CodeRefused",
    "ContentChanged",
    "EntryAmbiguous",
    "FileRefused",
    "IndexDamaged",
    "ModelUnknown",
    "NameRefused",
    "PipelineRefused",
    "RepositoryAddressRefused",
    "RepositoryAnswerRefused",
    "RepositoryFolderGone",
    "RepositoryFolderRefused",
    "RepositoryLimitExceeded",
    "RepositoryReadOnly",
    "RepositoryUnreachable",
    "SettingsRefused",
    "VersionExists",
    "VersionPinned",
    "VersionRetired",
    "VersionUnknown",
    "VersionUnusable",
]


@dataclass(eq=False, kw_only=True)
class ModelUnknown(ValidationError):
    """No version of that model exists here."""

    code = "validation.model_unknown"
    owner = "serving.repository"
    http_status = 404
    template = "unknown model {model!r}"

    model: str


@dataclass(eq=False, kw_only=True)
class VersionUnknown(ValidationError):
    """The model exists, that version does not."""

    code = "validation.version_unknown"
    owner = "serving.repository"
    http_status = 404
    template = "model {model!r} has no version {version!r}"

    model: str
    version: str


@dataclass(eq=False, kw_only=True)
class NameRefused(ValidationError):
    """A name of a model or version that could not be a folder and a part of a URL."""

    code = "validation.model_name"
    owner = "serving.repository"
    template = (
        "{what} {value}: letters, digits, '.', '_' and '-', at most {limit}, not starting with '.' or '-'"
    )

    what: str
    value: str
    limit: int


@dataclass(eq=False, kw_only=True)
class VersionExists(ValidationError):
    """A published version never changes; other content needs another version."""

    code = "validation.version_exists"
    owner = "serving.repository"
    http_status = 409
    template = "{model}@{version} cannot be published: {reason}"

    model: str
    version: str
    reason: str


@dataclass(eq=False, kw_only=True)
class VersionPinned(ValidationError):
    """A pinned version is not retired before it is unpinned."""

    code = "validation.version_pinned"
    owner = "serving.repository"
    http_status = 409
    template = "{model}@{version} is pinned: unpin it first"

    model: str
    version: str


@dataclass(eq=False, kw_only=True)
class VersionRetired(ValidationError):
    """A retired version is neither loaded, served nor pinned again."""

    code = "validation.version_retired"
    owner = "serving.repository"
    http_status = 409
    template = "{model}@{version} is retired"

    model: str
    version: str


@dataclass(eq=False, kw_only=True)
class VersionUnusable(ArtifactError):
    """A version is listed but its files cannot be used as they are."""

    code = "artifact.version_unusable"
    owner = "serving.repository"
    template = "{model}@{version}: {reason}"

    model: str
    version: str
    reason: str


@dataclass(eq=False, kw_only=True)
class ContentChanged(ArtifactError):
    """A file is not what was published. Nothing of it was kept."""

    code = "artifact.content_changed"
    owner = "serving.repository"
    template = "{model}@{version}: {file} is not what was published: {reason}"

    model: str
    version: str
    file: str
    reason: str


@dataclass(eq=False, kw_only=True)
class FileRefused(ArtifactError):
    """A file that no version may hold: outside of its folder, a link, or native code."""

    code = "artifact.repository_file"
    owner = "serving.repository"
    template = "file {file} is refused: {reason}"

    file: str
    reason: str


@dataclass(eq=False, kw_only=True)
class CodeRefused(PolicyError):
    """Python code from a repository that is not trusted with code."""

    code = "policy.repository_code"
    owner = "serving.repository"
    template = "file {file} is Python code, and this repository is not trusted with code"

    file: str


@dataclass(eq=False, kw_only=True)
class RepositoryLimitExceeded(ArtifactError):
    """A version is larger than the limits of the repository."""

    code = "artifact.repository_limit"
    owner = "serving.repository"
    template = "{what}: {found} exceeds the limit of {limit}"

    what: str
    found: int
    limit: int


@dataclass(eq=False, kw_only=True)
class EntryAmbiguous(ArtifactError):
    """A version holds several things that could be served, or none. Nothing is guessed."""

    code = "artifact.version_ambiguous"
    owner = "serving.repository"
    template = "{subject}: {reason}; choices: {choices}"

    subject: str
    reason: str
    choices: str


@dataclass(eq=False, kw_only=True)
class SettingsRefused(ArtifactError):
    """Settings of a version that have an unknown key or a value that cannot be."""

    code = "artifact.version_settings"
    owner = "serving.repository"
    template = "{source}: {key}: {reason}"

    source: str
    key: str
    reason: str


@dataclass(eq=False, kw_only=True)
class PipelineRefused(ArtifactError):
    """A pipeline that cannot be resolved into stages."""

    code = "artifact.pipeline"
    owner = "serving.repository"
    template = "pipeline {pipeline}: {reason}"

    pipeline: str
    reason: str


@dataclass(eq=False, kw_only=True)
class IndexDamaged(ArtifactError):
    """The index of a repository is not what this version of Plumbline writes."""

    code = "artifact.repository_index"
    owner = "serving.repository"
    template = "index of the repository: {reason}"

    reason: str


@dataclass(eq=False, kw_only=True)
class RepositoryFolderRefused(ValidationError):
    """What shall be a repository is no folder that can be read."""

    code = "validation.repository_folder"
    owner = "serving.repository"
    template = "the folder of the repository cannot be used: {reason}"

    reason: str


@dataclass(eq=False, kw_only=True)
class RepositoryFolderGone(ResourceError):
    """The folder of a repository could be read once and cannot be read now. What is loaded serves on."""

    code = "resource.repository_folder"
    owner = "serving.repository"
    recoverability = Recoverability.TRANSIENT
    template = "the folder of the repository cannot be read: {reason}; try again in {retry_after_s:g} s"

    reason: str
    retry_after_s: float = 5.0


@dataclass(eq=False, kw_only=True)
class RepositoryReadOnly(PolicyError):
    """The repository takes no changes."""

    code = "policy.repository_read_only"
    owner = "serving.repository"
    template = "the repository takes no changes: {reason}"

    reason: str


@dataclass(eq=False, kw_only=True)
class RepositoryAddressRefused(PolicyError):
    """Plain HTTP is for the loopback interface: nothing protects it elsewhere."""

    code = "policy.repository_address"
    owner = "serving.repository"
    template = "repository address {address}: {reason}"

    address: str
    reason: str


@dataclass(eq=False, kw_only=True)
class RepositoryUnreachable(ResourceError):
    """The repository does not answer, not in time, or not to the end."""

    code = "resource.repository_unreachable"
    owner = "serving.repository"
    recoverability = Recoverability.TRANSIENT
    template = "the repository does not answer: {reason}; try again in {retry_after_s:g} s"

    reason: str
    retry_after_s: float = 1.0


@dataclass(eq=False, kw_only=True)
class RepositoryAnswerRefused(ArtifactError):
    """The repository answered something that is not of its protocol."""

    code = "artifact.repository_answer"
    owner = "serving.repository"
    template = "answer of the repository: {reason}"

    reason: str
