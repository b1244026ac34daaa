#include "local_graph.h"

#include <stdexcept>
#include <string>

#include "lmptype.h"

namespace nequip_lammps {

namespace {
constexpr double OVERLAP = 0.02;  // Å, as in Python: closer than this directions lose their digits
}

GraphBuilder::GraphBuilder(std::vector<int> model_type_, int num_types_,
                           const std::function<double(int, int)>& cutoff)
    : model_type(std::move(model_type_)), num_types(num_types_), cutoff_squared(num_types_ * num_types_) {
  for (int center = 0; center < num_types; ++center)
    for (int neighbor = 0; neighbor < num_types; ++neighbor) {
      const double length = cutoff(center, neighbor);
      cutoff_squared[center * num_types + neighbor] = length * length;
    }
}

const LocalGraph& GraphBuilder::build(const Atoms& atoms, const std::vector<int>& representative) {
  graph.index.assign(atoms.centers, atoms.centers + atoms.num_centers);
  graph.types.clear();
  graph.center.clear();
  graph.neighbor.clear();
  graph.edge_vector.clear();
  graph.row_ptr.assign(1, 0);
  row_of.assign(atoms.total, -1);
  for (int row = 0; row < atoms.num_centers; ++row) {
    row_of[graph.index[row]] = row;
    graph.types.push_back(model_type[atoms.lammps_type[graph.index[row]]]);
  }
  for (int row = 0; row < atoms.num_centers; ++row) add_edges(atoms, representative, row);
  if (atoms.num_centers == 0) {
    // the model wants one atom at least, and must run: the other processes wait in its exchanges
    graph.index.push_back(-1);
    graph.types.push_back(0);
    graph.row_ptr.push_back(0);
  }
  return graph;
}

void GraphBuilder::add_edges(const Atoms& atoms, const std::vector<int>& representative, int row) {
  const int i = graph.index[row];
  const double* start = atoms.x[i];
  const double* cut = &cutoff_squared[graph.types[row] * num_types];
  for (int k = 0; k < atoms.num_neighbors[i]; ++k) {
    const int j = atoms.neighbors[i][k] & NEIGHMASK;
    const int type = model_type[atoms.lammps_type[j]];
    if (type < 0) continue;
    const double x = atoms.x[j][0] - start[0], y = atoms.x[j][1] - start[1], z = atoms.x[j][2] - start[2];
    const double squared = x * x + y * y + z * z;
    if (squared >= cut[type]) continue;
    if (squared < OVERLAP * OVERLAP)
      throw std::runtime_error("two atoms are less than " + std::to_string(OVERLAP).substr(0, 4) +
                               " Å apart: check the structure and its units (Å)");
    int& neighbor = row_of[representative[j]];
    if (neighbor < 0) {
      neighbor = static_cast<int>(graph.index.size());
      graph.index.push_back(representative[j]);
      graph.types.push_back(type);
    }
    graph.center.push_back(row);
    graph.neighbor.push_back(neighbor);
    graph.edge_vector.insert(graph.edge_vector.end(), {x, y, z});
  }
  graph.row_ptr.push_back(static_cast<int64_t>(graph.center.size()));
}

}  // namespace nequip_lammps
