"""S3 servers that judge by IAM policies: users with a policy of their own, on SeaweedFS and on moto.

Each judges most of what AWS does, and errs in its own way, which ``as_moto_reads`` and ``as_seaweedfs_reads`` make good
for.
"""

from __future__ import annotations

import json
import time
import urllib.request
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import boto3  # type: ignore[import-untyped]

from tests.patience import PATIENT_S
from tests.servers.processes import S3Server

POLICIES = Path(__file__).resolve().parents[2] / "deploy/policies"
SEAWEEDFS_OPTIONS = ("-s3.iam.readOnly=false",)
Statement = dict[str, Any]


def statements(name: str, bucket: str, prefix: str, without: str = "") -> list[Statement]:
    """A policy of ours for a bucket and prefix, without one of its actions; what is left without any is left out."""
    text = (POLICIES / name).read_text().replace("BUCKET", bucket).replace("PREFIX", prefix)
    found: list[Statement] = json.loads(text)["Statement"]
    for each in found:
        each["Action"] = [action for action in listed(each["Action"]) if action != without]
    return [each for each in found if each["Action"]]


def listed(actions: str | list[str]) -> list[str]:
    return [actions] if isinstance(actions, str) else actions


def as_moto_reads(found: list[Statement], bucket: str) -> list[Statement]:
    """moto asks for an action HeadBucket, which is ListBucket to AWS, and for DeleteObject on the bucket where AWS looks at
    each key."""
    actions = {action for each in found for action in each["Action"]}
    asked = {"s3:ListBucket": "s3:HeadBucket", "s3:DeleteObject": "s3:DeleteObject"}
    also = [name for action, name in asked.items() if action in actions]
    if not also:
        return found
    return [*found, {"Effect": "Allow", "Action": also, "Resource": f"arn:aws:s3:::{bucket}"}]


# SeaweedFS takes no policy with these names.
UNKNOWN_TO_SEAWEEDFS = {
    "s3:ListBucketMultipartUploads",
    "s3:GetLifecycleConfiguration",
    "s3:GetBucketVersioning",
    "s3:GetBucketObjectLockConfiguration",
}


def as_seaweedfs_reads(found: list[Statement]) -> list[Statement]:
    known = [
        {**each, "Action": [name for name in each["Action"] if name not in UNKNOWN_TO_SEAWEEDFS]}
        for each in found
    ]
    return [each for each in known if each["Action"]]


@dataclass
class Judge:
    """A server with one user, who may do what the last ``allow`` said."""

    server: S3Server
    user: S3Server

    @classmethod
    def of(cls, server: S3Server) -> Judge:
        iam = boto_client("iam", server)
        iam.create_user(UserName="broker")
        key = iam.create_access_key(UserName="broker")["AccessKey"]
        user = replace(server, access_key_id=key["AccessKeyId"], secret_access_key=key["SecretAccessKey"])
        return cls(server, user)

    def allow(self, found: list[Statement]) -> None:
        """Returns when the server judges by it."""
        is_moto = self.server.name == "moto"
        if is_moto:
            self._begin_to_judge(after=10**9)
            found = as_moto_reads(found, self.server.bucket)
        else:
            found = as_seaweedfs_reads(found)
        # A marker of this policy: when it may be read, the policy is in force.
        key = f"policies/{time.monotonic_ns()}"
        boto_client("s3", self.server).put_object(Bucket=self.server.bucket, Key=key, Body=b"")
        resource = f"arn:aws:s3:::{self.server.bucket}/{key}"
        found = [*found, {"Effect": "Allow", "Action": ["s3:GetObject"], "Resource": resource}]
        policy = json.dumps({"Version": "2012-10-17", "Statement": found})
        boto_client("iam", self.server).put_user_policy(
            UserName="broker", PolicyName="own", PolicyDocument=policy
        )
        if is_moto:
            self._begin_to_judge(after=0)
        deadline_s = time.monotonic() + PATIENT_S
        s3 = boto_client("s3", self.user)
        while True:
            try:
                s3.get_object(Bucket=self.server.bucket, Key=key)
                return
            except s3.exceptions.ClientError:
                assert time.monotonic() < deadline_s
                time.sleep(0.02)

    def begin_upload(self, key: str) -> None:
        """Leaves an unfinished upload, as the user."""
        boto_client("s3", self.user).create_multipart_upload(Bucket=self.server.bucket, Key=key)

    def uploads(self) -> int:
        """Multipart uploads that were begun and neither completed nor aborted, removed by this."""
        if self.server.name == "moto":
            self._begin_to_judge(after=10**9)
        s3 = boto_client("s3", self.server)
        found = s3.list_multipart_uploads(Bucket=self.server.bucket).get("Uploads", [])
        for each in found:
            s3.abort_multipart_upload(Bucket=self.server.bucket, Key=each["Key"], UploadId=each["UploadId"])
        return len(found)

    def _begin_to_judge(self, after: int) -> None:
        """moto: the next requests so many are anybody's."""
        url = f"{self.server.endpoint}/moto-api/reset-auth"
        headers = {"Content-Type": "text/plain"}
        request = urllib.request.Request(url, data=str(after).encode(), headers=headers, method="POST")
        urllib.request.urlopen(request, timeout=PATIENT_S).close()


@cache
def boto_client(service: str, server: S3Server) -> Any:
    """boto3's client of one AWS service, as the server's user."""
    return boto3.client(
        service,
        endpoint_url=server.endpoint,
        aws_access_key_id=server.access_key_id,
        aws_secret_access_key=server.secret_access_key,
        region_name=server.region,
    )
