#include "pair_nequip.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <unordered_map>

#include "archive.h"
#include "atom.h"
#include "comm.h"
#include "error.h"
#include "force.h"
#include "memory.h"
#include "neigh_list.h"
#include "neighbor.h"
#include "update.h"

namespace LAMMPS_NS {

using nequip_lammps::Archive;
using nequip_lammps::Atoms;
using nequip_lammps::Card;
using nequip_lammps::GraphBuilder;
using nequip_lammps::Halo;
using nequip_lammps::LocalGraph;
using nequip_lammps::Model;

namespace {
constexpr int HOME_SIZE = 2;  // doubles of a message for each atom
}

PairNequip::PairNequip(LAMMPS* lammps, std::string architecture_)
    : Pair(lammps), architecture(std::move(architecture_)) {
  single_enable = 0;
  restartinfo = 0;  // a restart holds no potential: pair_style and pair_coeff are given again
  one_coeff = 1;
  manybody_flag = 1;
  no_virial_fdotr_compute = 1;  // edges give the virial of each atom as well
  centroidstressflag = CENTROID_NOTAVAIL;
}

PairNequip::~PairNequip() {
  if (allocated) {
    memory->destroy(setflag);
    memory->destroy(cutsq);
  }
}

void PairNequip::settings(int narg, char**) {
  if (narg != 0) error->all(FLERR, "pair_style {} takes no arguments: the file goes into pair_coeff", architecture);
}

void PairNequip::coeff(int narg, char** arg) {
  if (narg < 4)
    error->all(FLERR, "give pair_coeff * * FILE.nequip.pt2 and an element for each atom type, for example: "
                      "pair_coeff * * water.nequip.pt2 H O");
  const int n = atom->ntypes;
  if (!allocated) {
    memory->create(setflag, n + 1, n + 1, "pair:setflag");
    memory->create(cutsq, n + 1, n + 1, "pair:cutsq");
    allocated = 1;
  }
  std::string problem;
  try {
    load(arg[2], {arg + 3, arg + narg});
  } catch (const std::exception& failure) {
    problem = failure.what();
  }
  agree_on(problem);
  for (int i = 1; i <= n; ++i)
    for (int j = 1; j <= n; ++j) setflag[i][j] = model_type[i] >= 0 && model_type[j] >= 0;
  comm_forward = HOME_SIZE;
}

void PairNequip::load(const std::string& path, const std::vector<std::string>& elements) {
  const Archive archive(path);
  if (!archive.has("nequip/card.json"))
    throw std::runtime_error(path + " was not written by nequip-compile: compile the potential with nequip-compile "
                                    "--target lammps");
  card = Card::parse(archive.read("nequip/card.json"), path);
  card.check_runs_here(path);
  if (card.architecture != architecture)
    throw std::runtime_error(path + " holds a potential of the architecture " + card.architecture + ", not " +
                             architecture + ": give pair_style " + card.architecture);
  map_types(elements, path);
  model = std::make_unique<Model>(archive, card, path, local_rank());
  builder = std::make_unique<GraphBuilder>(model_type, static_cast<int>(card.type_names.size()),
                                           [this](int center, int neighbor) { return card.cutoff(center, neighbor); });
}

void PairNequip::map_types(const std::vector<std::string>& elements, const std::string& path) {
  if (static_cast<int>(elements.size()) != atom->ntypes)
    throw std::runtime_error("pair_coeff names " + std::to_string(elements.size()) + " elements and there are " +
                             std::to_string(atom->ntypes) + " atom types: name one for each, in their order");
  model_type.assign(1, -1);
  for (const std::string& element : elements) {
    const auto& names = card.type_names;
    const auto found = std::find(names.begin(), names.end(), element);
    if (element == "NULL") {
      model_type.push_back(-1);
      continue;
    }
    if (found == names.end()) {
      std::string known;
      for (const std::string& name : names) known += (known.empty() ? "" : ", ") + name;
      throw std::runtime_error("pair_coeff names " + element + ", but " + path + " knows only " + known);
    }
    if (std::count(elements.begin(), elements.end(), element) > 1)
      throw std::runtime_error("pair_coeff names " + element + " twice: give each element one atom type");
    model_type.push_back(static_cast<int>(found - names.begin()));
  }
}

// One sentence for all processes, that of the first which has something to say; without it, the others would wait.
void PairNequip::agree_on(const std::string& problem) {
  const int mine = problem.empty() ? comm->nprocs : comm->me;
  int first = mine;
  MPI_Allreduce(&mine, &first, 1, MPI_INT, MPI_MIN, world);
  if (first == comm->nprocs) return;
  int length = static_cast<int>(problem.size());
  MPI_Bcast(&length, 1, MPI_INT, first, world);
  std::string text = problem;
  text.resize(length);
  MPI_Bcast(text.data(), length, MPI_CHAR, first, world);
  error->all(FLERR, "pair_style {}: {}", architecture, text);
}

int PairNequip::local_rank() const {
  MPI_Comm node;
  MPI_Comm_split_type(world, MPI_COMM_TYPE_SHARED, comm->me, MPI_INFO_NULL, &node);
  int rank = 0;
  MPI_Comm_rank(node, &rank);
  MPI_Comm_free(&node);
  return rank;
}

void PairNequip::init_style() {
  if (std::string(update->unit_style) != "metal")
    error->all(FLERR, "pair_style {} computes in eV and Å: give units metal, not units {}", architecture,
               update->unit_style);
  if (!force->newton_pair)
    error->all(FLERR, "pair_style {} adds forces to ghost atoms: give newton on", architecture);
  if (atom->molecular != Atom::ATOMIC && atom->nbonds > 0)
    for (int k = 1; k <= 3; ++k)
      if (force->special_lj[k] == 0.0 && force->special_coul[k] == 0.0)
        error->all(FLERR, "pair_style {} needs all neighbors, those with a bond too: give special_bonds lj/coul 1 1 1",
                   architecture);
  neighbor->add_request(this, NeighConst::REQ_FULL);
  // Under pair hybrid LAMMPS makes room for the messages of the hybrid, which asks its styles before they know.
  force->pair->comm_forward = std::max(force->pair->comm_forward, comm_forward);
}

double PairNequip::init_one(int i, int j) {
  if (setflag[i][j] == 0) error->all(FLERR, "pair_coeff leaves atom types {} and {} without an element", i, j);
  return std::max(card.cutoff(model_type[i], model_type[j]), card.cutoff(model_type[j], model_type[i]));
}

void PairNequip::compute(int eflag, int vflag) {
  ev_init(eflag, vflag);
  if (has_new_neighbors()) {
    update_representatives();
    if (card.exchange_width > 0) plan_exchanges();
  }
  const Atoms atoms{atom->x,        atom->type,       list->inum, list->ilist, list->numneigh, list->firstneigh,
                    atom->nlocal + atom->nghost};
  try {
    const LocalGraph& graph = builder->build(atoms, representative);
    if (card.exchange_width > 0) halo.set_rows(graph.index, graph.num_centers(), atoms.total);
    tally(graph, model->run(graph, halo, comm->nthreads));
  } catch (const std::exception& failure) {
    error->one(FLERR, "pair_style {}: {}", architecture, failure.what());
  }
}

// The same in all processes, since they plan together.
bool PairNequip::has_new_neighbors() {
  int mine = neighbor->ago == 0 || static_cast<int>(representative.size()) != atom->nlocal + atom->nghost, any = mine;
  MPI_Allreduce(&mine, &any, 1, MPI_INT, MPI_MAX, world);
  return any != 0;
}

// Periodic images of one atom share a row, that of the atom itself where this process owns it: fewer rows to compute
// and to exchange, and none but its own on one process.
void PairNequip::update_representatives() {
  const int total = atom->nlocal + atom->nghost;
  representative.resize(total);
  std::unordered_map<tagint, int> first;
  first.reserve(total);
  for (int i = 0; i < total; ++i)
    representative[i] = atom->tag_enable ? first.try_emplace(atom->tag[i], i).first->second : i;
}

// Ghosts that may be neighbors before the next list: LAMMPS tells where they live.
void PairNequip::plan_exchanges() {
  const int total = atom->nlocal + atom->nghost;
  homes.resize(total);
  for (int i = 0; i < atom->nlocal; ++i) homes[i] = {comm->me, i};
  comm->forward_comm(this);
  std::vector<char> is_listed(total, 0);
  std::vector<int> ghosts;
  for (int n = 0; n < list->inum; ++n) {
    const int i = list->ilist[n];
    for (int k = 0; k < list->numneigh[i]; ++k) {
      const int j = representative[list->firstneigh[i][k] & NEIGHMASK];
      if (j < atom->nlocal || is_listed[j] || model_type[atom->type[j]] < 0) continue;
      is_listed[j] = 1;
      ghosts.push_back(j);
    }
  }
  halo.plan(ghosts, homes, world);
}

void PairNequip::tally(const LocalGraph& graph, const Model::Result& result) {
  double energy = 0.0;
  for (int row = 0; row < list->inum; ++row) {
    energy += result.atomic_energies[row];
    if (eflag_atom) eatom[graph.index[row]] += result.atomic_energies[row];
  }
  if (!std::isfinite(energy))
    throw std::runtime_error("the energy is not a finite number: look at the structure and the time step");
  if (eflag_global) eng_vdwl += energy;

  double** f = atom->f;
  for (size_t edge = 0; edge < graph.center.size(); ++edge) {
    const int i = graph.index[graph.center[edge]], j = graph.index[graph.neighbor[edge]];
    const double* gradient = result.edge_gradient + 3 * edge;
    for (int k = 0; k < 3; ++k) {
      f[i][k] += gradient[k];
      f[j][k] -= gradient[k];
    }
    if (vflag_either) tally_edge(i, j, &graph.edge_vector[3 * edge], gradient);
  }
}

// -r ⊗ ∂E/∂r of one edge, half of it to each atom. The sum over all edges is symmetric, that of one need not be.
void PairNequip::tally_edge(int i, int j, const double* r, const double* g) {
  const double v[6] = {-r[0] * g[0],
                       -r[1] * g[1],
                       -r[2] * g[2],
                       -0.5 * (r[0] * g[1] + r[1] * g[0]),
                       -0.5 * (r[0] * g[2] + r[2] * g[0]),
                       -0.5 * (r[1] * g[2] + r[2] * g[1])};
  for (int k = 0; k < 6; ++k) {
    if (vflag_global) virial[k] += v[k];
    if (vflag_atom) {
      vatom[i][k] += 0.5 * v[k];
      vatom[j][k] += 0.5 * v[k];
    }
  }
}

int PairNequip::pack_forward_comm(int n, int* listed, double* message, int, int*) {
  for (int k = 0; k < n; ++k) {
    *message++ = homes[listed[k]].rank;
    *message++ = homes[listed[k]].number;
  }
  return HOME_SIZE * n;
}

void PairNequip::unpack_forward_comm(int n, int first, double* message) {
  for (int i = first; i < first + n; ++i, message += HOME_SIZE)
    homes[i] = {static_cast<int>(message[0]), static_cast<int>(message[1])};
}

}  // namespace LAMMPS_NS
