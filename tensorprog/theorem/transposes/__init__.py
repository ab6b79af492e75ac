"""The general Master Theorem as a pass: transposes become fresh matrices, with corrections (TP III, box 1).

    Before:  e := Nonlin(phi(U_x))         After:  weight W_T : A(n, n) ~ N(0, 1) * sqrt(var_w / n)   (fresh)
             W_e := MatMul(W, e)                   W_e := MatMul(W, e)
             z := Nonlin(phi(W_e))                 z := Nonlin(phi(W_e))
             W_T := Trsp(W)                        d_z_W_e := Nonlin(D(phi)(W_e))
             W_T_z := MatMul(W_T, z)               c_W_T_z := Moment(var_w * d_z_W_e)
                                                   W_T_z_hat := MatMul(W_T, z)
                                                   W_T_z := LinComb(W_T_z_hat + c_W_T_z * e)

Z^{W.T @ z} = Ẑ + Σ_i c_i Z^{x_i} with c_i = s_{W.T} E[∂Z^z/∂Ẑ^{W @ x_i}], over all W @ x_i that z was computed from,
and the same with W and W.T exchanged. The derivative is the total one through everything coordinatewise, earlier
corrections included; it is carried along as families d_y_g, with the indices of y first, then those of g. A program
that is BP-like needs no corrections: its transposes only become fresh (Tensor Programs II, theorem 2.10).

The fresh matrix has the law of W, so s_{W.T} = lim (rows of W)·multiplier²·variance comes out of its shape.
"""

from tensorprog.theorem.transposes.rewriting import without_transposes

__all__ = ["without_transposes"]
