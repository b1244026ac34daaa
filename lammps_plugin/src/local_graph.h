// The graph that a model is given: atoms of this process as centers, and edges to their neighbors.
#pragma once
#include <cstdint>
#include <functional>
#include <vector>

namespace nequip_lammps {

// Atoms as LAMMPS has them: owned ones, then ghosts.
struct Atoms {
  double** x;
  const int* lammps_type;     // 1, 2, ...
  int num_centers;            // owned atoms that have a neighbor list
  const int* centers;         // their numbers
  const int* num_neighbors;   // by number of the center
  int** neighbors;            // candidates: within the cutoff and LAMMPS's skin
  int total;
};

struct LocalGraph {
  // Rows of the model: centers in the order of LAMMPS's list, then those ghosts that are neighbors.
  std::vector<int> index;  // LAMMPS's number of each row; -1: the atom that stands in where this process has none
  std::vector<int64_t> types;
  std::vector<int64_t> row_ptr;
  // Edges, sorted by center.
  std::vector<int64_t> center, neighbor;
  std::vector<double> edge_vector;  // [edge, 3], from center to neighbor, Å

  size_t num_centers() const { return row_ptr.size() - 1; }
};

class GraphBuilder {
 public:
  // model_type[LAMMPS type]: index into type_names, -1 for atoms that the model is not asked about.
  // cutoff(center type, neighbor type) in Å.
  GraphBuilder(std::vector<int> model_type, int num_types, const std::function<double(int, int)>& cutoff);

  // representative[i]: the atom whose row stands for LAMMPS's atom i, which all periodic images of an atom share.
  // Throws std::runtime_error for two atoms that are closer than 0.02 Å.
  const LocalGraph& build(const Atoms& atoms, const std::vector<int>& representative);

 private:
  void add_edges(const Atoms& atoms, const std::vector<int>& representative, int row);

  std::vector<int> model_type;
  int num_types;
  std::vector<double> cutoff_squared;  // [center type, neighbor type]
  std::vector<int> row_of;             // of each representative, -1 where it has none yet
  LocalGraph graph;                    // kept from step to step for its memory
};

}  // namespace nequip_lammps
