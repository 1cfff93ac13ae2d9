"""The certificate authority of a sandbox, and how its guests come to trust it.

Part of: ring3 (the front door). May touch: the world's bundles of certificates, through mounts, and box.env.
"""

from __future__ import annotations

from .networking import needs_extra

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl

    from .sandbox import Sandbox

#: where distributions keep the certificates that the system trusts
BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Alpine, Arch
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora
    "/etc/ssl/ca-bundle.pem",  # openSUSE
    "/etc/ssl/cert.pem",  # musl's, and LibreSSL's
)
JAVA_STORE = "/etc/ssl/certs/java/cacerts"
FOLDER = "/run/ring3"
#: what programs with bundles of their own look at
VARIABLES = (
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "NODE_EXTRA_CA_CERTS",
    "PIP_CERT",
    "AWS_CA_BUNDLE",
    "CARGO_HTTP_CAINFO",
    "DENO_CERT",
    "NIX_SSL_CERT_FILE",
)


class Authority:
    """A certificate authority, made on the spot; its key never leaves this process."""

    def __init__(self) -> None:
        try:
            import trustme
        except ImportError as e:
            raise needs_extra("TLS", e) from None
        self._ca = trustme.CA(organization_name="ring3 sandbox")
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._keys = ""

    @property
    def certificate(self) -> bytes:
        """Its certificate, as PEM."""
        pem: bytes = self._ca.cert_pem.bytes()
        return pem

    def log_keys(self, file: str) -> None:
        """Have the secrets of every connection written to `file`, as browsers do with SSLKEYLOGFILE."""
        self._keys = file
        for context in self._contexts.values():
            context.keylog_filename = file

    def context(self, name: str) -> ssl.SSLContext:
        """A server's TLS, with a certificate for `name`."""
        import ssl

        context = self._contexts.get(name)
        if context is None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.set_alpn_protocols(["http/1.1"])
            if self._keys:
                context.keylog_filename = self._keys
            self._ca.issue_cert(name).configure_cert(context)
            self._contexts[name] = context
        return context

    def install(self, box: Sandbox) -> None:
        """Have the guests of `box` trust it."""
        from .vfs.onefile import OneFileFS

        bundle = b""
        present = [path for path in BUNDLES if box.exists(path)]
        for path in present:
            bundle = (box.root / path).read_bytes()
            box.mount(path, OneFileFS(_joined(bundle, self.certificate)))
        whole = f"{FOLDER}/ca-bundle.pem"
        box.mount(whole, OneFileFS(_joined(bundle, self.certificate)))
        box.mount(f"{FOLDER}/ca.pem", OneFileFS(self.certificate))
        for name in VARIABLES:
            box.env.setdefault(name, f"{FOLDER}/ca.pem" if name == "NODE_EXTRA_CA_CERTS" else whole)
        if box.exists(JAVA_STORE):
            self._install_java(box)

    def _install_java(self, box: Sandbox) -> None:
        """Java reads neither: its store gets what the bundle has."""
        from .vfs.onefile import OneFileFS

        try:
            from cryptography import x509
            from cryptography.hazmat.primitives.serialization import NoEncryption, pkcs12
        except ImportError:
            return
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # some authorities' certificates are older than the rules
            certificates = x509.load_pem_x509_certificates(
                (box.root / f"{FOLDER}/ca-bundle.pem").read_bytes()
            )
        entries = [pkcs12.PKCS12Certificate(c, f"ring3-{i}".encode()) for i, c in enumerate(certificates)]
        serialize = getattr(pkcs12, "serialize_java_truststore", None)
        if serialize is not None:
            box.mount(JAVA_STORE, OneFileFS(serialize(entries, NoEncryption())))


def _joined(bundle: bytes, certificate: bytes) -> bytes:
    return bundle + (b"" if not bundle or bundle.endswith(b"\n") else b"\n") + certificate
