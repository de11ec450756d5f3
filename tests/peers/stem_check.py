"""Reads all documents of a network's authorities by stem's parsers, with validation.

usage: stem_check.py IP:DIRPORT...

Exits with 1, and a traceback, at the first document that stem refuses.
"""

import io
import sys
import urllib.error
import urllib.request

from stem.descriptor import DocumentHandler, parse_file


def fetch(address, path):
    """The document, in clear."""
    request = urllib.request.Request(f"http://{address}/tor/{path}")
    request.add_header("Accept-Encoding", "identity")
    with urllib.request.urlopen(request, timeout=20) as reply:
        return reply.read()


def parse(text, kind, whole=False):
    """All documents of a text, validated."""
    handler = DocumentHandler.DOCUMENT if whole else DocumentHandler.ENTRIES
    documents = list(parse_file(io.BytesIO(text), kind, validate=True, document_handler=handler))
    assert documents, f"no document of {kind}"
    return documents


def check_consensus(address, authorities):
    """Both flavours, their signatures, and the microdescriptors that one of them names."""
    certificates = parse(fetch(address, "keys/all"), "dir-key-certificate-3 1.0")
    assert len(certificates) == authorities, certificates
    text = fetch(address, "status-vote/current/consensus")
    kind = "network-status-consensus-3 1.0"
    (consensus,) = parse(text, kind, whole=True)
    # The signatures are on all that was written.
    (signed,) = parse_file(io.BytesIO(text), kind, document_handler=DocumentHandler.DOCUMENT)
    signed.validate_signatures(certificates)
    assert len(consensus.signatures) > authorities / 2
    assert len(consensus.directory_authorities) == authorities
    text = fetch(address, "status-vote/current/consensus-microdesc")
    (flavoured,) = parse(text, "network-status-microdesc-consensus-3 1.0", whole=True)
    assert len(flavoured.routers) == len(consensus.routers)
    digests = [router.microdescriptor_digest for router in flavoured.routers.values()]
    text = fetch(address, "micro/d/" + "-".join(digests))
    found = {str(one.digest()) for one in parse(text, "microdescriptor 1.0")}
    missing = {digest.rstrip("=") for digest in digests} - {one.rstrip("=") for one in found}
    assert not missing, missing
    return len(consensus.routers)


def check_vote(address):
    """The authority's own vote, of the round that is over or of the one under way."""
    for path in ("status-vote/current/authority", "status-vote/next/authority"):
        try:
            text = fetch(address, path)
        except urllib.error.HTTPError as error:
            assert error.code == 404, error
            continue
        (vote,) = parse(text, "network-status-vote-3 1.0", whole=True)
        assert vote.is_vote and vote.routers
        return len(vote.routers)
    raise AssertionError(f"{address} serves no vote")


def main(addresses):
    """Checks each authority."""
    for address in addresses:
        relays = check_consensus(address, len(addresses))
        voted = check_vote(address)
        descriptors = parse(fetch(address, "server/all"), "server-descriptor 1.0")
        extra_infos = parse(fetch(address, "extra/all"), "extra-info 1.0")
        assert len(descriptors) == relays, (len(descriptors), relays)
        print(
            f"stem: {address}: consensus of {relays}, vote on {voted},",
            f"{len(descriptors)} descriptors, {len(extra_infos)} extra-infos",
        )


main(sys.argv[1:])
