//! What differs between two plans of one lab, and carrying it out while packets pass: what is new first, then, once it is in use, what
//! is no longer wanted goes. Whatever both plans have stays untouched.

use std::collections::BTreeMap;

use engine::topology::NodeId;

use super::build::{self, Furniture, Naming};
use super::namespace::Namespace;
use super::plan::{Device, DeviceKind, Plan, Role, Space};
use super::{Lab, LabError};

/// A pod's device on its node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PodDevice {
    /// The node.
    pub node: NodeId,
    /// The device of the node.
    pub device: String,
    /// The name of the pod.
    pub pod: String,
}

/// What differs between two plans.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// Devices of pods that are new, or other ones than before.
    pub come: Vec<PodDevice>,
    /// Devices of pods that are gone, or become other ones.
    pub gone: Vec<PodDevice>,
    /// Spaces of those that are gone, by position in the old plan.
    gone_spaces: Vec<usize>,
    /// What spaces that stay have to have besides, by position in the new plan.
    more: Vec<(usize, Furniture)>,
    /// What they no longer have.
    less: Vec<(usize, Furniture)>,
}

/// A pod's space with the device that leads to it.
fn pods(plan: &Plan) -> BTreeMap<&str, (usize, &Space, &Device, NodeId)> {
    let places: BTreeMap<Role, (usize, &Space)> =
        plan.spaces.iter().enumerate().map(|(at, space)| (space.role, (at, space))).collect();
    let mut pods = BTreeMap::new();
    for node in &plan.spaces {
        let Role::Node(id) = node.role else { continue };
        for device in &node.devices {
            let DeviceKind::Veth { space: role @ Role::Pod(..), .. } = &device.kind else {
                continue;
            };
            if let Some((at, space)) = places.get(role) {
                pods.insert(space.place.as_str(), (*at, *space, device, id));
            }
        }
    }
    pods
}

/// A space without what may change: a node without its pods' devices.
fn frame(space: &Space) -> Space {
    let is_pods =
        |device: &Device| matches!(device.kind, DeviceKind::Veth { space: Role::Pod(..), .. });
    Space {
        devices: space.devices.iter().filter(|device| !is_pods(device)).cloned().collect(),
        addresses: Vec::new(),
        routes: Vec::new(),
        neighbours: Vec::new(),
        ..space.clone()
    }
}

impl Change {
    /// What there is to do; an error where nodes differ, or where they are joined in another way.
    pub fn between(old: &Plan, new: &Plan) -> Result<Self, LabError> {
        let is_pod = |space: &&Space| matches!(space.role, Role::Pod(..));
        let frames =
            |plan: &Plan| plan.spaces.iter().filter(|s| !is_pod(s)).map(frame).collect::<Vec<_>>();
        let (before, after) = (frames(old), frames(new));
        if before.len() != after.len() {
            return Err(LabError::Fixed("the set of nodes".to_owned()));
        }
        if let Some((one, _)) = before.iter().zip(&after).find(|(one, other)| one != other) {
            return Err(LabError::Fixed(format!("the network of {}", one.name)));
        }
        let mut change = Self::default();
        let (before, after) = (pods(old), pods(new));
        for (place, (at, space, device, node)) in &before {
            let is_same = after
                .get(place)
                .is_some_and(|(_, _, other, there)| *other == *device && there == node);
            if !is_same {
                change.gone.push(pod_device(space, device, *node));
                change.gone_spaces.push(*at);
            }
        }
        let stays = |place: &str| {
            let (one, other) = (before.get(place)?, after.get(place)?);
            ((one.2, one.3) == (other.2, other.3)).then_some(one.0)
        };
        for (at, space) in new.spaces.iter().enumerate() {
            if let Some((_, _, device, node)) = after.get(space.place.as_str())
                && stays(&space.place).is_none()
            {
                change.come.push(pod_device(space, device, *node));
                continue;
            }
            let earlier = match space.role {
                Role::Pod(..) => stays(&space.place).and_then(|at| old.spaces.get(at)),
                role => old.space(role),
            };
            if let Some(earlier) = earlier {
                change.differ(at, earlier, space);
            }
        }
        Ok(change)
    }

    /// Notes what a space that stays has besides, and what it no longer has.
    fn differ(&mut self, at: usize, old: &Space, new: &Space) {
        let mut more = Furniture::named(&new.name);
        more.addresses = without(&new.addresses, &old.addresses);
        more.routes = without(&new.routes, &old.routes);
        more.neighbours = without(&new.neighbours, &old.neighbours);
        let mut less = Furniture::named(&new.name);
        less.addresses = without(&old.addresses, &new.addresses);
        less.routes = without(&old.routes, &new.routes);
        less.neighbours = without(&old.neighbours, &new.neighbours);
        // Those that became others were replaced.
        less.routes
            .retain(|old| !new.routes.iter().any(|r| (r.to, r.table) == (old.to, old.table)));
        less.neighbours.retain(|old| {
            let key = (&old.device, old.address);
            !new.neighbours.iter().any(|n| (&n.device, n.address) == key)
        });
        self.more.push((at, more));
        self.less.push((at, less));
    }

    /// Whether a pod that is gone has the name, or the place among a node's devices, of one that comes: then it must go first.
    pub(super) fn is_in_the_way(&self, gone: &PodDevice) -> bool {
        self.come.iter().any(|come| {
            come.pod == gone.pod || (come.node, &come.device) == (gone.node, &gone.device)
        })
    }
}

fn pod_device(space: &Space, device: &Device, node: NodeId) -> PodDevice {
    PodDevice { node, device: device.name.clone(), pod: space.name.clone() }
}

fn without<T: Clone + PartialEq>(all: &[T], known: &[T]) -> Vec<T> {
    all.iter().filter(|one| !known.contains(one)).cloned().collect()
}

impl Lab {
    /// Makes what is new, so that programs can be hung on it. Pods whose name or device others take are gone then.
    ///
    /// `released` is told of spaces whose names must be free.
    pub(super) fn prepare(
        &mut self,
        new: Plan,
        change: &Change,
        naming: Naming<'_>,
        released: &mut dyn FnMut(&Space) -> Result<(), LabError>,
    ) -> Result<Leaving, LabError> {
        let mut leaving = Leaving::default();
        let old = std::mem::replace(&mut self.plan, new);
        let mut spaces: Vec<Option<Namespace>> =
            std::mem::take(&mut self.spaces).into_iter().map(Some).collect();
        let mut gone = Vec::new();
        for (at, device) in change.gone_spaces.iter().zip(&change.gone) {
            let space = spaces.get_mut(*at).and_then(Option::take);
            gone.push((old.spaces[*at].clone(), device, space));
        }
        let mut known: BTreeMap<String, Namespace> = BTreeMap::new();
        for (space, namespace) in old.spaces.iter().zip(&mut spaces) {
            known.extend(namespace.take().map(|namespace| (space.place.clone(), namespace)));
        }
        for (space, device, namespace) in gone {
            if change.is_in_the_way(device) {
                let node = old.space(Role::Node(device.node)).and_then(|s| known.get(&s.place));
                node.map_or(Ok(()), |node| build::unlink(node, vec![device.device.clone()]))?;
                drop(namespace);
                released(&space)?;
            } else {
                leaving.devices.push(device.clone());
                leaving.spaces.push(space);
                leaving.held.extend(namespace);
            }
        }
        let mut made = Vec::new();
        for space in &self.plan.spaces {
            self.spaces.push(match known.remove(&space.place) {
                Some(namespace) => namespace,
                None => {
                    made.push(space.role);
                    build::namespace(space, naming)?
                }
            });
        }
        self.join(&made)?;
        for (at, furniture) in &change.more {
            if let Some(namespace) = self.spaces.get(*at) {
                build::furnish(namespace, furniture.clone())?;
            }
        }
        leaving.less.clone_from(&change.less);
        Ok(leaving)
    }

    /// Makes the devices that lead to new spaces, and what these have.
    fn join(&self, made: &[Role]) -> Result<(), LabError> {
        let of = |role: Role| self.space(role).map(Namespace::descriptor);
        for (space, namespace) in self.plan.spaces.iter().zip(&self.spaces) {
            let is_new = |device: &&Device| matches!(&device.kind, DeviceKind::Veth { space, .. } if made.contains(space));
            let devices: Vec<Device> = space.devices.iter().filter(is_new).cloned().collect();
            if devices.is_empty() {
                continue;
            }
            build::links(namespace, &devices, &of)?;
            let ports = devices.iter().map(build::port).collect();
            build::furnish(namespace, Furniture { ports, ..Furniture::named(&space.name) })?;
        }
        for role in made {
            let space = self.plan.space(*role).zip(self.space(*role));
            if let Some((space, namespace)) = space {
                build::furnish(namespace, Furniture::of(&self.plan, space))?;
            }
        }
        Ok(())
    }

    /// Takes away what is no longer wanted.
    pub(super) fn finish(
        &self,
        leaving: Leaving,
        released: &mut dyn FnMut(&Space) -> Result<(), LabError>,
    ) -> Result<(), LabError> {
        for device in &leaving.devices {
            if let Some(node) = self.space(Role::Node(device.node)) {
                build::unlink(node, vec![device.device.clone()])?;
            }
        }
        for (at, furniture) in leaving.less {
            if let Some(namespace) = self.spaces.get(at) {
                build::take(namespace, furniture)?;
            }
        }
        drop(leaving.held);
        leaving.spaces.iter().try_for_each(released)
    }
}

/// What is to go once nothing uses it any more.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    pub(super) devices: Vec<PodDevice>,
    spaces: Vec<Space>,
    held: Vec<Namespace>,
    less: Vec<(usize, Furniture)>,
}
