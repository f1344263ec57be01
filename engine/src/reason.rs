//! Why a packet is dropped: the reference's reasons by number and kebab-case name
//! (Cilium 1.18.3 `bpf/lib/common.h`). Every reason a program of ours can give is a variant here and
//! has a page in the book; nothing else may be a reason.

use serde::{Serialize, Serializer, ser::SerializeStruct};

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $code:literal, $name:literal;)+) => {
        /// Why a packet is dropped.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum DropReason { $($(#[$doc])* $variant = $code),+ }

        impl DropReason {
            /// Every reason, by number.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The reason of a number.
            pub fn from_code(code: u8) -> Option<Self> {
                match code { $($code => Some(Self::$variant),)+ _ => None }
            }

            /// The kebab-case name.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }
        }
    };
}

reasons! {
    /// The pod sent from an address that is not its own.
    InvalidSourceIp = 132, "invalid-source-ip";
    /// The default deny: no rule allows it.
    PolicyDenied = 133, "policy-denied";
    /// The packet is too short to hold its network header.
    InvalidPacket = 134, "invalid-packet";
    /// The transport header is truncated or malformed.
    CtInvalidHeader = 135, "ct-invalid-header";
    /// A transport protocol that conntrack does not know.
    CtUnknownProtocol = 137, "ct-unknown-protocol";
    /// Neither IPv4 nor IPv6 nor ARP.
    UnknownL3 = 139, "unsupported-l3-protocol";
    /// A program of the datapath is missing.
    MissedTailCall = 140, "missed-tail-call";
    /// The packet could not be written.
    WriteError = 141, "write-error";
    /// The overlay delivered a packet without a tunnel key.
    NoTunnelKey = 147, "no-tunnel-key";
    /// The conntrack entry could not be created.
    CtCreateFailed = 155, "ct-create-failed";
    /// An IPv6 extension header that cannot be skipped.
    InvalidExtensionHeader = 156, "invalid-extension-header";
    /// A later fragment, whose ports are not known, met a policy that asks for ports.
    FragmentNotSupported = 157, "fragment-not-supported";
    /// A service without a backend that may be used, or a port that the service does not have.
    NoService = 158, "no-service";
    /// A service's port would have to be rewritten in a protocol whose checksum the datapath cannot keep right.
    UnsupportedServiceProtocol = 159, "unsupported-service-protocol";
    /// An Ethernet frame of a type that is not supported.
    UnsupportedL2 = 166, "unsupported-l2-protocol";
    /// No port is free to translate the source to.
    NatNoMapping = 167, "nat-no-mapping";
    /// No route leads to the destination.
    NoFib = 169, "no-fib";
    /// A pod sent to the tunnel port itself.
    EncapProhibited = 170, "encapsulation-prohibited";
    /// A packet from the overlay claimed an identity that the wire may not carry.
    InvalidIdentity = 171, "invalid-identity";
    /// From outside to a service address that only the cluster may use.
    IsClusterIp = 174, "is-cluster-ip";
    /// A later fragment of a datagram whose first one was not seen, so that its ports are not known.
    FragmentNotFound = 175, "fragment-not-found";
    /// From outside to a service that admits only other sources.
    NotInSourceRange = 177, "not-in-source-range";
    /// A deny rule matched.
    PolicyDeny = 181, "policy-deny";
    /// The TTL or hop limit ran out.
    TtlExceeded = 196, "ttl-exceeded";
    /// The attachment has no endpoint: its tables are not loaded.
    EndpointNotReady = 203, "endpoint-not-ready";
    /// The source is on the prefilter's list. The reference drops it without a reason; the number is ours, from a range that it
    /// leaves free.
    Prefiltered = 240, "prefiltered";
}

impl DropReason {
    /// The reference's number.
    pub fn code(self) -> u8 {
        self as u8
    }
}

impl std::fmt::Display for DropReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.name(), self.code())
    }
}

impl Serialize for DropReason {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut out = s.serialize_struct("DropReason", 2)?;
        out.serialize_field("name", self.name())?;
        out.serialize_field("code", &self.code())?;
        out.end()
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for DropReason {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "DropReason".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let names: Vec<&str> = Self::ALL.iter().map(|reason| reason.name()).collect();
        let codes: Vec<u8> = Self::ALL.iter().map(|reason| reason.code()).collect();
        schemars::json_schema!({
            "description": "Why a packet is dropped: the reference's number and name.",
            "type": "object",
            "properties": {
                "name": { "type": "string", "enum": names },
                "code": { "type": "integer", "enum": codes }
            },
            "required": ["name", "code"]
        })
    }
}
