//! Programs that run before there is an `skb`: their context, codes and helpers.

#[cfg(feature = "kernel")]
use super::kernel::{Pair, is_available};
use super::*;

/// r6 = context, r7 = packet of at least 64 bytes; then the body, and code 2, which is also that of a shorter packet.
#[cfg(feature = "kernel")]
fn program(body: &[Raw]) -> Vec<Raw> {
    let length = i16::try_from(body.len()).unwrap();
    [
        &[
            raw(0xBF, 6, 1, 0, 0),
            raw(0x61, 7, 6, 0, 0),
            raw(0x61, 2, 6, 4, 0),
            raw(0xBF, 3, 7, 0, 0),
            raw(0x07, 3, 0, 0, 64),
            raw(0x2D, 3, 2, length, 0),
        ][..],
        body,
        &ending(2),
    ]
    .concat()
}

#[cfg(feature = "kernel")]
fn frames() -> Vec<Vec<u8>> {
    [14, 63, 64, 65, 1000].map(|length| (0..=255).cycle().take(length).collect()).to_vec()
}

#[cfg(feature = "kernel")]
fn agree(what: &str, code: &[Raw]) -> bool {
    let pair = Pair::of_kind(ProgramKind::Xdp, &[code.to_vec()], &[]);
    let Some(mut pair) = pair else { return false };
    for frame in frames() {
        pair.run(what, &frame);
    }
    true
}

#[cfg(feature = "kernel")]
#[test]
fn context_packet_and_codes_are_the_kernels() {
    if !is_available() {
        return;
    }
    for field in [12, 16] {
        let body = [raw(0x61, 0, 6, field, 0), raw(0x7B, 7, 0, 16, 0), raw(0x71, 0, 7, 3, 0)];
        let body = [&body[..], &[raw(0x73, 7, 0, 40, 0)]].concat();
        assert!(agree(&format!("field {field}"), &program(&body)));
    }
    for code in 0..=5 {
        assert!(agree(&format!("code {code}"), &ending(code)));
    }
    for (ifindex, flags) in [(1, 0), (99, 0), (1, 1)] {
        let call = [raw(0xB7, 1, 0, 0, ifindex), raw(0xB7, 2, 0, 0, flags), raw(0x85, 0, 0, 0, 23)];
        let code = [&call[..], &[ending(0)[1]]].concat();
        assert!(agree(&format!("redirect {ifindex} {flags}"), &code));
    }
    // Data begins where metadata would end.
    let body = [raw(0x61, 0, 6, 8, 0), raw(0xBF, 0, 7, 0, 0), raw(0x71, 0, 0, 1, 0)];
    assert!(agree("metadata", &program(&[&body[..], &[raw(0x73, 7, 0, 2, 0)]].concat())));
}

#[cfg(feature = "kernel")]
#[test]
fn what_is_not_in_the_context_is_a_fault_where_the_kernel_refuses_it() {
    if !is_available() {
        return;
    }
    for (offset, code) in [(20, 0x61), (24, 0x61), (12, 0x69), (12, 0x71), (16, 0x79), (14, 0x69)] {
        let program = program(&[raw(code, 0, 6, offset, 0)]);
        assert!(!agree("a field", &program), "{offset} is taken");
        let mut machine = machine_of_kind(ProgramKind::Xdp, &[program], Vec::new()).unwrap();
        machine.begin(0, Skb::xdp(vec![0; 64]), Clock::default());
        assert!(machine.run(&mut ()).is_err(), "{offset}");
    }
    let store = program(&[raw(0x63, 6, 2, 16, 0)]);
    assert!(!agree("a write", &store));
}

#[test]
fn helpers_for_an_skb_are_refused_by_name() {
    use super::super::call::Helper;
    for helper in Helper::ALL {
        let code = [&[raw(0x85, 0, 0, 0, helper.number())][..], &ending(0)].concat();
        let made = machine_of_kind(ProgramKind::Xdp, &[code], Vec::new());
        match made {
            Ok(_) => assert!(helper.is_for_xdp()),
            Err((0, error)) => {
                assert!(!helper.is_for_xdp() && error.contains(helper.name()), "{error}");
            }
            Err(other) => panic!("{other:?}"),
        }
    }
}

#[cfg(feature = "kernel")]
#[test]
fn helpers_are_for_xdp_where_the_kernel_says_so() {
    use super::super::call::Helper;
    if !is_available() {
        return;
    }
    for helper in Helper::ALL {
        let known = libbpf_rs::ProgramType::Xdp.is_helper_supported(helper_id(*helper)).unwrap();
        assert_eq!(known, helper.is_for_xdp(), "{helper:?}");
    }
}

#[cfg(feature = "kernel")]
fn helper_id(helper: super::super::call::Helper) -> u32 {
    helper.number().cast_unsigned()
}

#[test]
fn a_program_of_the_other_kind_is_not_gone_on_in() {
    let call =
        [raw(0x18, 2, 1, 0, 0), raw(0, 0, 0, 0, 0), raw(0xB7, 3, 0, 0, 0), raw(0x85, 0, 0, 0, 12)];
    let codes = [[&call[..], &ending(7)].concat(), ending(3).to_vec()];
    let maps = vec![map(Kind::ProgramArray, 4, 4, 1)];
    let program = |code: &Vec<Raw>, kind| {
        let program = Program::new("test".to_owned(), code.clone(), 1, Vec::new(), Vec::new());
        program.unwrap().of_kind(kind).unwrap()
    };
    for (kind, expected) in [(ProgramKind::Xdp, 7), (ProgramKind::Classifier, 3)] {
        let programs = vec![program(&codes[0], ProgramKind::Classifier), program(&codes[1], kind)];
        let image = Image { programs, maps: maps.clone(), ..Image::default() };
        let mut machine = Machine::new(&Rc::new(image), |_| None).unwrap();
        machine.maps[0].update(&[0; 4], &1_u32.to_le_bytes(), 0).unwrap();
        machine.begin(0, Skb::new(vec![0; 64]), Clock::default());
        assert_eq!(machine.run(&mut ()), Ok(expected));
    }
}
